// The function app, on its own Flex Consumption plan.
import { appSettings, tagSet } from 'types.bicep'

param name string
param planName string
param location string
param tags tagSet
param identityName string
param storageAccountName string
param deploymentContainerName string
param componentName string
param pythonVersion string
param instanceMemoryMB int
param perInstanceConcurrency int
param maximumInstanceCount int
param alwaysReadyInstances int
param updateStrategy string
param zoneRedundant bool

@description('Empty: no virtual network.')
param subnetId string

@description('The Functions host rejects larger request bodies, with status 500 and an empty response.')
param hostBodyBytes int

@description('Settings of the proxy with another value than their default.')
param proxySettings appSettings

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' existing = {
  name: identityName
}

resource account 'Microsoft.Storage/storageAccounts@2025-08-01' existing = {
  name: storageAccountName
}

resource component 'Microsoft.Insights/components@2020-02-02' existing = {
  name: componentName
}

var alwaysReady = alwaysReadyInstances > 0 ? [{ name: 'http', instanceCount: alwaysReadyInstances }] : []

// Recreate is the platform's default. Not all regions know this property yet, so it is only set if it is needed.
var updates = updateStrategy == 'Recreate' ? {} : { siteUpdateStrategy: { type: updateStrategy } }

// Python 3.11 and 3.12 need this setting to stream responses.
var streamingSettings = contains(['3.11', '3.12'], pythonVersion) ? { PYTHON_ENABLE_INIT_INDEXING: '1' } : {}

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: { name: 'FC1', tier: 'FlexConsumption' }
  properties: { reserved: true, zoneRedundant: zoneRedundant }
}

resource app 'Microsoft.Web/sites@2025-03-01' = {
  name: name
  location: location
  tags: union(tags, { 'azd-service-name': 'api' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identity.id}': {} }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    siteConfig: {
      minTlsVersion: '1.2'
      ftpsState: 'Disabled'
    }
    #disable-next-line BCP037 // The compiler's types do not have siteUpdateStrategy yet.
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${account.properties.primaryEndpoints.blob}${deploymentContainerName}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identity.id
          }
        }
      }
      runtime: { name: 'python', version: pythonVersion }
      ...updates
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
        alwaysReady: alwaysReady
        triggers: { http: { perInstanceConcurrency: perInstanceConcurrency } }
      }
    }
  }
}

resource settings 'Microsoft.Web/sites/config@2025-03-01' = {
  parent: app
  name: 'appsettings'
  properties: union(
    {
      AzureWebJobsStorage__credential: 'managedidentity'
      AzureWebJobsStorage__clientId: identity.properties.clientId
      AzureWebJobsStorage__blobServiceUri: account.properties.primaryEndpoints.blob
      APPLICATIONINSIGHTS_CONNECTION_STRING: component.properties.ConnectionString
      APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.properties.clientId};Authorization=AAD'
      // Without these, the exporter of spans also sends figures about itself, and fetches settings.
      APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL: 'true'
      APPLICATIONINSIGHTS_SDKSTATS_DISABLED: 'true'
      APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED: 'true'
      APPLICATIONINSIGHTS_OPENTELEMETRY_RESOURCE_METRIC_DISABLED: 'true'
      AZURE_CLIENT_ID: identity.properties.clientId
      PROXY_TABLES__tableServiceUri: account.properties.primaryEndpoints.table
      PROXY_TABLES__clientId: identity.properties.clientId
      FUNCTIONS_REQUEST_BODY_SIZE_LIMIT: string(hostBodyBytes)
      // Otherwise Azure's own page of 150 KB is the response to a method without a trigger, such as PROPFIND /.
      AzureWebJobsDisableHomepage: 'true'
    },
    streamingSettings,
    proxySettings
  )
}

output name string = app.name
output uri string = 'https://${app.properties.defaultHostName}'
