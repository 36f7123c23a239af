// Optional: a virtual network for the app, with private endpoints for storage and the Azure OpenAI accounts.
import { tagSet } from 'types.bicep'

param name string
param location string
param tags tagSet
param storageAccountName string

@description('New accounts, in this resource group.')
param openAiAccountNames string[]
param existingOpenAiAccountIds string[]

var blobZone = 'privatelink.blob.${environment().suffixes.storage}'
var tableZone = 'privatelink.table.${environment().suffixes.storage}'
var openAiZones = [
  'privatelink.openai.azure.com'
  'privatelink.cognitiveservices.azure.com'
  'privatelink.services.ai.azure.com'
]
var zoneNames = concat([blobZone, tableZone], openAiZones)

var storageTargets = [
  { name: 'pe-blob-${name}', id: account.id, groupId: 'blob', zones: [blobZone] }
  { name: 'pe-table-${name}', id: account.id, groupId: 'table', zones: [tableZone] }
]
var newTargets = map(openAiAccountNames, accountName => {
  name: 'pe-${accountName}'
  id: resourceId('Microsoft.CognitiveServices/accounts', accountName)
  groupId: 'account'
  zones: openAiZones
})
// Accounts in two resource groups can have the same name.
var existingTargets = map(existingOpenAiAccountIds, id => {
  name: 'pe-openai-${uniqueString(id)}'
  id: id
  groupId: 'account'
  zones: openAiZones
})

resource account 'Microsoft.Storage/storageAccounts@2025-08-01' existing = {
  name: storageAccountName
}

resource vnet 'Microsoft.Network/virtualNetworks@2025-07-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: ['10.0.0.0/16'] }
    subnets: [
      {
        name: 'app'
        properties: {
          addressPrefix: '10.0.1.0/24'
          delegations: [
            { name: 'flex', properties: { serviceName: 'Microsoft.App/environments' } }
          ]
        }
      }
      {
        name: 'private-endpoints'
        properties: { addressPrefix: '10.0.2.0/24' }
      }
    ]
  }
}

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [
  for zone in zoneNames: {
    name: zone
    location: 'global'
    tags: tags
  }
]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [
  for (zone, i) in zoneNames: {
    parent: zones[i]
    name: name
    location: 'global'
    tags: tags
    properties: {
      registrationEnabled: false
      // An account that is private in another network, but not in this one, keeps its public name here.
      resolutionPolicy: 'NxDomainRedirect'
      virtualNetwork: { id: vnet.id }
    }
  }
]

module endpoints 'private-endpoint.bicep' = [
  for target in concat(storageTargets, newTargets, existingTargets): {
    name: target.name
    params: {
      name: target.name
      location: location
      tags: tags
      subnetId: '${vnet.id}/subnets/private-endpoints'
      targetId: target.id
      groupId: target.groupId
      zoneNames: target.zones
    }
    dependsOn: [
      links
    ]
  }
]

output appSubnetId string = '${vnet.id}/subnets/app'
