// One account for the deployed package, the locks of the Functions host, and the tables of the proxy.
import { tagSet } from 'types.bicep'

param name string
param location string
param tags tagSet
param deploymentContainerName string
param isPrivate bool
param zoneRedundant bool

@description('With isPrivate, the only public addresses that have access.')
param allowedIpAddresses string[]

// Declared here, so that the app does not create its tables when it starts.
var tableNames = ['events', 'deployments', 'quotas', 'usage', 'attendees']
var ipRules = [for address in allowedIpAddresses: { value: address, action: 'Allow' }]
var isClosed = isPrivate && empty(allowedIpAddresses)

resource account 'Microsoft.Storage/storageAccounts@2025-08-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: zoneRedundant ? 'Standard_ZRS' : 'Standard_LRS' }
  properties: {
    allowSharedKeyAccess: false
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    dnsEndpointType: 'Standard'
    publicNetworkAccess: isClosed ? 'Disabled' : 'Enabled'
    networkAcls: {
      defaultAction: isPrivate ? 'Deny' : 'Allow'
      bypass: 'AzureServices'
      ipRules: isPrivate ? ipRules : []
    }
  }
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2025-08-01' = {
  parent: account
  name: 'default'
}

resource deploymentContainer 'Microsoft.Storage/storageAccounts/blobServices/containers@2025-08-01' = {
  parent: blobs
  name: deploymentContainerName
  properties: { publicAccess: 'None' }
}

resource tableService 'Microsoft.Storage/storageAccounts/tableServices@2025-08-01' = {
  parent: account
  name: 'default'
}

resource tables 'Microsoft.Storage/storageAccounts/tableServices/tables@2025-08-01' = [
  for table in tableNames: {
    parent: tableService
    name: table
  }
]

output tableEndpoint string = account.properties.primaryEndpoints.table
